//! What a browser touches: the canonical request, cookies, session handle, pages and error pages.
