"""What Prefect tracks and retries."""
