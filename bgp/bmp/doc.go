// Package bmp sends the sessions and routes of a BGP speaker to monitoring stations
// (BMP, RFC 7854; Loc-RIB: RFC 9069). It contains no BGP: a [Source] has the
// sessions, and the messages of BGP as they are on the wire.
//
// No collector can cost the speaker anything. The source reports that a prefix has
// changed, not its routes: a station keeps a mark for it, and reads the routes when the
// collector has taken the ones before (state compression, RFC 7854 section 5). A
// station whose collector reads so slowly that the marks reach their bound, or that
// reads nothing for [WriteTime], closes the connection, and later begins anew with all
// routes. A station without a connection keeps nothing and watches nothing.
//
// A peer whose session ended is down at the station, also where its routes stay in use
// for its restart (RFC 4724): those are in the Loc-RIB alone.
package bmp
