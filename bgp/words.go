package bgp

import "fmt"

// The error codes and subcodes of a NOTIFICATION that this package treats apart.
const (
	openError             = 2
	badPeerAS             = 2
	badIdentifier         = 3
	unsupportedCapability = 7

	cease              = 6
	adminShutdown      = 2
	adminReset         = 4
	connectionRejected = 5
	collision          = 7
	hardReset          = 9
)

// codeWords names the error codes of a NOTIFICATION (RFC 4271 section 4.5).
var codeWords = map[int]string{
	1: "message header error",
	2: "OPEN message error",
	3: "UPDATE message error",
	4: "hold timer expired",
	5: "finite state machine error",
	6: "cease",
	7: "ROUTE-REFRESH message error",
}

// subcodeWords names the subcodes by code (RFC 4271, RFC 4486, RFC 5492,
// RFC 6608, RFC 7313, RFC 8538).
var subcodeWords = map[[2]int]string{
	{1, 1}: "connection not synchronized", {1, 2}: "bad message length", {1, 3}: "bad message type",
	{2, 1}: "unsupported version", {2, 2}: "bad peer AS", {2, 3}: "bad BGP identifier",
	{2, 4}: "unsupported optional parameter", {2, 6}: "unacceptable hold time", {2, 7}: "unsupported capability",
	{3, 1}: "malformed attribute list", {3, 2}: "unrecognized well-known attribute",
	{3, 3}: "missing well-known attribute", {3, 4}: "attribute flags error", {3, 5}: "attribute length error",
	{3, 6}: "invalid ORIGIN", {3, 8}: "invalid NEXT_HOP", {3, 9}: "optional attribute error",
	{3, 10}: "invalid network field", {3, 11}: "malformed AS_PATH",
	{5, 1}: "unexpected message in OpenSent", {5, 2}: "unexpected message in OpenConfirm",
	{5, 3}: "unexpected message in Established",
	{6, 1}: "maximum number of prefixes reached", {6, 2}: "administrative shutdown", {6, 3}: "peer de-configured",
	{6, 4}: "administrative reset", {6, 5}: "connection rejected", {6, 6}: "other configuration change",
	{6, 7}: "connection collision", {6, 8}: "out of resources", {6, 9}: "hard reset", {6, 10}: "BFD down",
	{7, 1}: "invalid message length",
}

// notificationText returns the text of a NOTIFICATION: "3/11 UPDATE message
// error, malformed AS_PATH".
func notificationText(code, subcode int) string {
	text := fmt.Sprintf("%d/%d %s", code, subcode, wordOr(codeWords[code], "unknown error"))
	if sub := subcodeWords[[2]int{code, subcode}]; sub != "" {
		text += ", " + sub
	}
	return text
}

func wordOr(word, otherwise string) string {
	if word == "" {
		return otherwise
	}
	return word
}

// notification is a NOTIFICATION without its header (RFC 4271 section 4.5).
type notification struct {
	code, subcode int
	reason        string // the operator's text (RFC 9003)
	fault         string // of the message that it answers
}

// notificationOf decodes the data of a NOTIFICATION: for a hard reset the
// NOTIFICATION inside it (RFC 8538 section 3.1), for a shutdown or reset the
// operator's text (RFC 9003), which begins with its length.
func notificationOf(code, subcode uint8, data []byte) notification {
	if code == cease && subcode == hardReset && len(data) >= 2 {
		code, subcode, data = data[0], data[1], data[2:]
	}
	n := notification{code: int(code), subcode: int(subcode)}
	says := code == cease &&
		(subcode == adminShutdown || subcode == adminReset)
	if says && len(data) > 1 {
		n.reason = string(data[1:min(1+int(data[0]), len(data))])
	}
	return n
}

// words returns the text of n, with the operator's text or the fault.
func (n notification) words() string {
	text := notificationText(n.code, n.subcode)
	if n.reason != "" {
		text += ": " + n.reason
	} else if n.fault != "" {
		text += ": " + n.fault
	}
	return text
}

// sentNotification and receivedNotification begin the texts of a NOTIFICATION.
const (
	sentNotification     = "sent NOTIFICATION "
	receivedNotification = "received NOTIFICATION "
)
