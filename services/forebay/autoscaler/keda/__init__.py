"""KEDA's external scaler: told how many replicas there should be as soon as the first one is."""
