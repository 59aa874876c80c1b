package state

import (
	"fmt"
	"time"
)

// Certificate is one of a TLS endpoint: the agent's own, or one of its authority.
type Certificate struct {
	Section   string // of the configuration: api.admin.tls
	File      string
	Subject   string
	Authority bool // it is one that the other side's must chain to
	NotBefore time.Time
	NotAfter  time.Time
}

// expiryNotice is how long before its end a certificate is a problem; of one that is
// valid for less than three times as long, a third of its validity.
const expiryNotice = 30 * 24 * time.Hour

// Problem returns what is wrong with the validity at a time, and the remedy; "" when
// all is well.
func (c *Certificate) Problem(now time.Time) string {
	name := fmt.Sprintf("%s: the certificate %s in %s", c.Section, c.Subject, c.File)
	remedy := "put a new one in its place (onlinkctl pki issue); the agent reads it without a restart"
	if c.Authority {
		remedy = "make a new authority (onlinkctl pki init), have both in the file until every certificate is of the new one"
	}
	left := c.NotAfter.Sub(now)
	switch {
	case now.Before(c.NotBefore):
		return fmt.Sprintf("%s is not valid before %s: check this machine's clock", name, day(c.NotBefore))
	case left <= 0:
		return fmt.Sprintf("%s has expired on %s: no new connection is made with it: %s", name, day(c.NotAfter), remedy)
	case left < min(expiryNotice, c.NotAfter.Sub(c.NotBefore)/3):
		return fmt.Sprintf("%s expires in %s, on %s: %s", name, inDays(left), day(c.NotAfter), remedy)
	}
	return ""
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// inDays writes a duration as days, or hours when there are less than two.
func inDays(d time.Duration) string {
	if days := int(d / (24 * time.Hour)); days >= 2 {
		return fmt.Sprintf("%d days", days)
	}
	return fmt.Sprintf("%d hours", int(d/time.Hour))
}
