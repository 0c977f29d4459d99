"""Cards and balances come in from files. The verbs: `import_cards`, `preview_import`."""

from loyalty.services.imports.importing import ImportReport, Outcome, import_cards, preview_import

__all__ = ["ImportReport", "Outcome", "import_cards", "preview_import"]
