// Package render translates the objects of a cluster into the configuration of one
// agent: one onlinkd.yaml, one set of announcements, the pools of namespaces, and
// the reasons for what is left out. It is pure: no I/O, no clock, no goroutine; the
// same objects in any order give the same bytes. [Render] is safe for concurrent
// use and changes nothing of its input.
//
// One broken object never stops the others. An object with a mistake is rejected
// with the field and the fix, and what was in force of it stays: its entry in
// [Input.Current], or for a ServiceAdvertisement the attributes in
// [Input.Announced]. Of two objects that contradict each other the older one stays,
// of two of one age the first by name.
package render
