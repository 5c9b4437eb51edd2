"""What MkDocs calls: it adds the pages that are generated out of the code."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    import reference

    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    return files
