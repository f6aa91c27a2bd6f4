"""Figures of predictions against truth. Pure functions over numpy arrays, one row a prediction.

labels       accuracy, precision, recall, F1, confusions, calibration
spans        entities in a text
ranking      documents in an order
correlation  scores against scores

Small and our own, because the one library that has most of them is scikit-learn, which with scipy
is 190 MB for a worker; tests hold these against it (decision 0029).
"""
