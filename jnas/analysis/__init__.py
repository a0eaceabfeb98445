"""What a finished search shows: everything here reads histories only."""
