"""The centre's library: passages of documents that people have, with their source, licence and date.

Nobody at EVY has reviewed them. The big model may read them for general questions, people may search them,
and what is written from them becomes an article only by a person's review.
"""
