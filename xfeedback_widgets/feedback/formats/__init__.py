"""Masks and labels in the formats of other tools: PNG, COCO, Label Studio, GRADIA.

One module for each; :mod:`.entries` holds the manners they share and :mod:`.shapes` the rule by which
polygons and rectangles become pixels. Every reader looks at the whole file before it returns anything
and names the entry at fault; tables of records are :mod:`..exchange`'s business.
"""
