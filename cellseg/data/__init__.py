"""From raw images and any annotation to a data set that trains.

One form comes out, the one that training reads::

    DIR/[train|valid|test/]images/  masks/  labels/     the same stem in each
    DIR/classes.json  manifest.csv

Imports the runtime only; needs nothing but the core dependencies.
"""
