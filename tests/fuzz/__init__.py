"""Files made to break readers: well-formed records that say odd things, through everything that reads a file.

``python -m tests.fuzz --minutes 10`` tries as many as it can and ends with 1 if a rule was broken; ``python -m tests.fuzz
FILE ...`` tries stored ones again. ``cases`` makes files, ``readers`` reads them and has the rules, ``run`` counts.
"""
