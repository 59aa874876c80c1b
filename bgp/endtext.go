package bgp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"onlink/bgp/gobgp"
)

// self are the properties of this speaker that the texts of failures use.
type self struct {
	asn       uint32
	id        netip.Addr
	addresses []netip.Addr // next hops of this node's announcements
}

// self returns the properties of the speaker that the texts of failures use.
func (c *Config) self() self {
	return self{asn: c.ASN, id: c.RouterID, addresses: []netip.Addr{c.NodeAddress, c.NodeAddress6}}
}

// lostText is the reason of an Established session's end when no earlier event
// gave a more precise one.
func lostText(e gobgp.Event) string {
	switch e.Reason {
	case "graceful-restart", "read-failed":
		return "the peer closed the connection without a NOTIFICATION"
	case "write-failed":
		return "failed to write to the peer"
	case "hold-timer-expired":
		return "hold timer expired: nothing received from the peer"
	case "notification-sent":
		return sentNotification + notificationOf(e.Code, e.Subcode, e.Data).words()
	case "notification-received", "hard-reset":
		return receivedNotification + notificationOf(e.Code, e.Subcode, e.Data).words()
	}
	return strings.ReplaceAll(e.Reason, "-", " ")
}

// closedBeforeOpen is the reason when the peer has no neighbour with this node's
// address configured, and so closes the connection.
const closedBeforeOpen = "connection closed by the peer before OPEN: is this node configured there, with this address?"

// endText is the reason why a session did not come up; "" where another event
// gave it.
func (s self) endText(e gobgp.Event) string {
	waits := "before OPEN"
	if e.State == gobgp.OpenConfirm {
		waits = "after OPEN, before KEEPALIVE"
	}
	switch e.Reason {
	case "read-failed":
		switch {
		case !closedByPeer(e.Err):
			return fmt.Sprintf("connection lost %s: %s", waits, bareError(e.Err))
		case e.State == gobgp.OpenConfirm:
			return fmt.Sprintf("connection closed by the peer %s: it does not accept this node's OPEN (AS %d, router ID %s)", waits, s.asn, s.id)
		}
		return closedBeforeOpen
	case "notification-received":
		return s.receivedText(e)
	case "hold-timer-expired":
		silent := "the peer took the connection and sends no OPEN"
		if e.State == gobgp.OpenConfirm {
			silent = "the peer sent OPEN and does not answer ours"
		}
		return fmt.Sprintf("%s%s: %s", sentNotification, notificationText(int(e.Code), int(e.Subcode)), silent)
	case "invalid-msg":
		if e.Code == 0 {
			return fmt.Sprintf("connection closed %s: the peer sent another message", waits)
		}
	}
	return ""
}

// receivedText describes a NOTIFICATION received in place of an OPEN or KEEPALIVE,
// with a hint for the operator.
func (s self) receivedText(e gobgp.Event) string {
	n := notificationOf(e.Code, e.Subcode, e.Data)
	text := receivedNotification + n.words()
	if hint := s.hint(n.code, n.subcode); hint != "" {
		text += ": " + hint
	}
	return text
}

// hint names the settings to compare at both ends after a NOTIFICATION from the
// peer.
func (s self) hint(code, subcode int) string {
	switch [2]int{code, subcode} {
	case [2]int{openError, badPeerAS}:
		return fmt.Sprintf("it expects another AS than %d from this node", s.asn)
	case [2]int{openError, badIdentifier}:
		return fmt.Sprintf("it does not accept this node's router ID %s: has it the same one?", s.id)
	case [2]int{openError, unsupportedCapability}:
		return "have both ends an address family in common?"
	case [2]int{cease, connectionRejected}:
		return "is this node configured there, with this address, and the only one that comes from it?"
	}
	return ""
}

// closedByPeer reports whether the peer closed the connection, rather than the
// network in between.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isTimeout reports whether no answer came in time.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// bareError is err without the ports of the connection, which differ at every
// attempt.
func bareError(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return errorText(err)
}

// errorText is the text of err; "" for none.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
