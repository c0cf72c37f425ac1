"""An independent recognizer that checks the scorer. It is no baseline.

Its training data are unknown, so its accuracy is comparable with no row of a table.
"""

PPOCRV6 = "ppocrv6"
NOT_COMPARABLE = "unknown training data, not comparable"
NOTES = {  # name in the column `recognizer` of predictions -> note on their score
    PPOCRV6: f"read by {PPOCRV6} (PP-OCRv6-small): {NOT_COMPARABLE}; a check of the scorer",
}
