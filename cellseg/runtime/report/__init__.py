"""The report of a run: one HTML page that holds all it shows and asks nothing of any network.

``folder``    what a finished run left behind
``facts``     its numbers as a page says them, and its warnings
``pictures``  what is drawn for the page
``sections``  the parts of the page
``page``      the page
``index``     the page of several runs
"""
