"""Where answers may differ from what a document says: each with its name and its reason, and nothing wider.

``Answer.check`` is schemathesis' name of what it found: ``RejectedPositiveData`` is a request that fits the document and was
refused, ``AcceptedNegativeData`` one that does not fit and was answered.
"""

from tests.support.schema_runs import Difference

FROM_OURS: tuple[Difference, ...] = ()
FROM_OPENAI: tuple[Difference, ...] = ()
