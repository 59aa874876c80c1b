// Package forecast says what a change of the configuration would do to a running
// agent: which sessions it would touch, which prefixes would be announced and
// withdrawn, accepted and dropped, and which kernel routes would change. It computes
// over the live state through [Agent], and has no effect on it. The lists of a
// [Result] are bounded, the counts are whole.
package forecast
