"""The report of a run: one HTML page that holds all it shows and asks nothing of any network.

``folder``    what a finished run left behind
``cell_file`` its table of cells
``pictures``  what is drawn for the page
``sections``  the parts of the page
``page``      the page
``index``     the page of several runs
"""
