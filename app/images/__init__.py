"""Result images and uploads: fetched, stored, served and collected."""
