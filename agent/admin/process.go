package admin

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"unicode"
)

// noLogin is the login of a process that no user's session has begun (proc(5)).
const noLogin = "4294967295"

// processText describes a process behind its ID, as far as it runs still: its name, its
// parent, which tells systemd from a shell, and the user who logged in, whom sudo(8)
// hides. A process chooses its own name: it identifies nothing.
func processText(pid int32) string {
	comm, parent := processOf(pid)
	if comm == "" {
		return ""
	}
	text := " " + comm
	if of, _ := processOf(parent); of != "" {
		text += fmt.Sprintf(", of pid %d %s", parent, of)
	}
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid)); err == nil && string(raw) != noLogin {
		if u, err := user.LookupId(string(raw)); err == nil {
			text += ", login " + u.Username
		}
	}
	return text
}

// processOf returns the name and the parent of a process; zero values when it is gone,
// or in another PID namespace.
func processOf(pid int32) (comm string, parent int32) {
	if pid <= 0 {
		return "", 0
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	stat := string(raw)
	begin, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if begin < 0 || end < begin {
		return "", 0
	}
	if fields := strings.Fields(stat[end+1:]); len(fields) > 1 {
		if n, err := strconv.ParseInt(fields[1], 10, 32); err == nil {
			parent = int32(n)
		}
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || strings.ContainsRune("(),", r) {
			return '?' // the name is among those of others, in parentheses
		}
		return r
	}, stat[begin+1:end]), parent
}
