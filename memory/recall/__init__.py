"""Finding messages again: texts become terms, an index finds candidates, ranking puts them in order.

It knows no sessions and no stores: a store hands it documents and a database connection, or builds an index of its
own on `terms_of`, `Candidate` and `rank`.
"""

from .documents import Document, Found, Index, Query, document_of, embedded_text, searchable_text
from .fts5 import SCHEMA, Fts5Index
from .ranking import NEAR, Candidate, Corpus, asks_something, rank
from .terms import query_terms, spoken_names, terms_of
from .weights import WEIGHTS, Weights

__all__ = [
    "NEAR",
    "SCHEMA",
    "WEIGHTS",
    "Candidate",
    "Corpus",
    "Document",
    "Found",
    "Fts5Index",
    "Index",
    "Query",
    "Weights",
    "asks_something",
    "document_of",
    "embedded_text",
    "query_terms",
    "rank",
    "searchable_text",
    "spoken_names",
    "terms_of",
]
