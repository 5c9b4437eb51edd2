"""Let a hit belong to its patch alone, which belongs to the query of the run: one check less for each of thousands."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAME = "hit_run_id_query_id_fkey"


def upgrade() -> None:
    op.drop_constraint(NAME, "hit", type_="foreignkey")


def downgrade() -> None:
    columns = ["run_id", "query_id"]
    op.create_foreign_key(NAME, "hit", "run_query", columns, columns, ondelete="CASCADE")
