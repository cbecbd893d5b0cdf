"""Result images and uploads: fetched, stored, shown, and deleted when nothing needs them."""
