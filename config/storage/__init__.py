"""Where configuration text is kept: files so far. A storage reads text and says when it changed; it judges nothing."""
