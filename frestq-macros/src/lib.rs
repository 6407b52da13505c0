//! The attributes and derives of frestq.
