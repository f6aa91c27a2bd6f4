"""What starts and ends replicas: for now, worker processes of this machine."""
