"""What EVY knows and says: reviewed templates, notices and articles, as data files with one loader."""

from actors.knowledge.engines import packer, redactor, route_rules, triage_files, triager
from actors.knowledge.loader import (
    ENGLISH,
    GENERAL,
    MAX_EMERGENCY_NUMBER,
    NOTICES,
    OWN,
    SHIPPED,
    Article,
    Branch,
    Notice,
    Review,
    Source,
    Template,
    Texts,
    bundled,
    first_that_works,
    layers,
)
from actors.knowledge.shortening import load_compressor, shipped_compressor

__all__ = [
    "ENGLISH",
    "GENERAL",
    "MAX_EMERGENCY_NUMBER",
    "NOTICES",
    "OWN",
    "SHIPPED",
    "Article",
    "Branch",
    "Notice",
    "Review",
    "Source",
    "Template",
    "Texts",
    "bundled",
    "first_that_works",
    "layers",
    "load_compressor",
    "packer",
    "redactor",
    "route_rules",
    "shipped_compressor",
    "triage_files",
    "triager",
]
