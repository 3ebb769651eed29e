"""What the two labelling pages share, `browse/` and `tag/`: pages that report what happens in batches.

The files are named as theirs are: `widget.py` is the frame that writes what a batch tells, in order,
`controls.py` what surrounds the page, `desk.py` where a person is in the pictures, `tracer.py` what has been
seen of one of them. What a page is, what happens on it and what a record of it holds, is theirs to say.
"""
