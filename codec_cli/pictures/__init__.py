"""Pictures in and out: image files of all kinds to pixels, profile and EXIF, and back, whole or by rows."""
