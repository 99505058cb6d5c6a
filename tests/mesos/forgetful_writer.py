"""The campaign's writer with a mistake: it acknowledges records that it has not written."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chaos import writer

if __name__ == "__main__":
    store = writer.store
    writer.store = lambda path, name, data: store(path, name, data) if name == "identity" else None
    sys.exit(writer.main(sys.argv[1:]))
