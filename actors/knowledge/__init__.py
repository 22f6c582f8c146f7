"""What EVY knows and says: reviewed templates, notices and articles, as data files with one loader."""

from actors.knowledge.loader import (
    ENGLISH,
    GENERAL,
    MAX_EMERGENCY_NUMBER,
    NOTICES,
    SHIPPED,
    Article,
    Notice,
    Review,
    Source,
    Template,
    Texts,
    packer,
    redactor,
    route_rules,
    triage_files,
    triager,
)

__all__ = [
    "ENGLISH",
    "GENERAL",
    "MAX_EMERGENCY_NUMBER",
    "NOTICES",
    "SHIPPED",
    "Article",
    "Notice",
    "Review",
    "Source",
    "Template",
    "Texts",
    "packer",
    "redactor",
    "route_rules",
    "triage_files",
    "triager",
]
