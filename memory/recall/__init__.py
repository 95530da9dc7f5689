"""Finding messages again: texts become terms, an index finds candidates, ranking puts them in order.

It knows no sessions and no stores: a store hands it documents and a database connection, or builds an index of its
own on `terms_of`, `Candidate` and `rank`.
"""

from .documents import Document, Found, Index, Query, document_of, searchable_text
from .fts5 import SCHEMA, Fts5Index
from .ranking import NEAR, Candidate, Corpus, asks_something, rank
from .terms import query_terms, spoken_names, terms_of

__all__ = [
    "NEAR",
    "SCHEMA",
    "Candidate",
    "Corpus",
    "Document",
    "Found",
    "Fts5Index",
    "Index",
    "Query",
    "asks_something",
    "document_of",
    "query_terms",
    "rank",
    "searchable_text",
    "spoken_names",
    "terms_of",
]
