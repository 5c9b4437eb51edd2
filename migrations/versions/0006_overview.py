"""Keep an overview of each block's gradient maps, for exhaustive search of large galleries.

Galleries made before stay in the search: what they lack is averaged as it is read, until their ingest is run again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COMMENT = "The maps averaged over 2 x 2 cells that are imagery: 6 x 64 x 64 int8; null where ingest has not made it yet"


def upgrade() -> None:
    op.add_column("gradient_block", sa.Column("overview", sa.LargeBinary(), comment=COMMENT))
    op.execute("ALTER TABLE gradient_block ALTER COLUMN overview SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_column("gradient_block", "overview")
