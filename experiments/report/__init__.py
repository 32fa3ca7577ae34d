"""The page that people read: sections, sentences, drawings."""
