package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// clean makes text from the agent, which may quote a peer's text (RFC 9003),
// safe for a terminal and for one line of a table.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s))
}

// cleanText is clean for a text of many lines.
func cleanText(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// age writes a duration with at most two units, as kubectl does: 45s, 3m5s,
// 42m, 5h10m, 2d3h.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	d = max(d.Truncate(time.Second), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 10*time.Minute:
		return pair(d/time.Minute, "m", d%time.Minute/time.Second, "s")
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < day:
		return pair(d/time.Hour, "h", d%time.Hour/time.Minute, "m")
	case d < 10*day:
		return pair(d/day, "d", d%day/time.Hour, "h")
	}
	return fmt.Sprintf("%dd", d/day)
}

// pair leaves out a second unit that is zero.
func pair(a time.Duration, unitA string, b time.Duration, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unitA)
	}
	return fmt.Sprintf("%d%s%d%s", a, unitA, b, unitB)
}

// yesNo writes a truth value.
func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// num writes a counter.
func num[T uint32 | uint64](n T) string { return fmt.Sprint(n) }

// addressOf reads one address.
func addressOf(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return addr, fmt.Errorf("%q is not an address; use one such as 10.244.1.7", s)
	}
	return addr.Unmap(), nil
}
