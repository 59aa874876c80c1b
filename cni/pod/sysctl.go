package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"onlink/sysctl"
)

// sysctlIfName stands for the pod's interface in the name of a sysctl.
const sysctlIfName = "IFNAME"

// Sysctl is one setting of a pod's network namespace beyond what onlink sets.
type Sysctl struct {
	Field string // the request's field, for errors
	Name  string // with dots; IFNAME in it stands for the pod's interface
	Value string
}

// SysctlError is the refusal of a sysctl of a request.
type SysctlError struct {
	Sysctl

	Reason string
	Err    error // the kernel's; nil: the kernel has no such setting
}

// Error implements error.
func (e *SysctlError) Error() string {
	if e.Err == nil {
		return e.Field + ": " + e.Reason
	}
	return e.Field + ": " + e.Reason + ": " + e.Err.Error()
}

// Unwrap returns the kernel's error.
func (e *SysctlError) Unwrap() error { return e.Err }

// path returns the setting's name for package sysctl, for a pod's interface.
func (s Sysctl) path(ifName string) string {
	parts := strings.Split(s.Name, ".")
	for i, p := range parts {
		if p == sysctlIfName {
			parts[i] = ifName
		}
	}
	return strings.Join(parts, "/")
}

// setSysctls applies the extra sysctls to the current namespace, a pod's.
func (w *Wiring) setSysctls() error {
	for _, s := range w.Sysctls {
		err := sysctl.Write(s.path(w.IfName), s.Value)
		switch {
		case err == nil:
		case errors.Is(err, sysctl.ErrReadOnly): // a fault of the node, not of the pod
			return err //nolint:wrapcheck // it names the setting
		case errors.Is(err, fs.ErrNotExist):
			return &SysctlError{Sysctl: s, Reason: fmt.Sprintf("a pod has no %s on this kernel", s.Name)}
		default:
			return &SysctlError{Sysctl: s, Reason: fmt.Sprintf("the kernel refuses %s = %s", s.Name, s.Value), Err: err}
		}
	}
	return nil
}

// checkSysctls compares the extra sysctls with the current namespace.
func (w *Wiring) checkSysctls(r *report) {
	for _, s := range w.Sysctls {
		have, err := sysctl.Read(s.path(w.IfName))
		if err != nil {
			r.add("sysctl %s: %v", s.Name, err)
			continue
		}
		// The kernel divides several numbers by tabs.
		if got := strings.Fields(have); !slices.Equal(got, strings.Fields(s.Value)) {
			r.add("sysctl %s is %s, want %s", s.Name, strings.Join(got, " "), s.Value)
		}
	}
}

// repeatSysctls applies the extra sysctls to a pod that is wired already.
func (w *Wiring) repeatSysctls(th *thread) error {
	if len(w.Sysctls) == 0 {
		return nil
	}
	if err := th.enter(w.NetnsFile); err != nil {
		return err
	}
	err := w.setSysctls()
	if lost := th.leave(); lost != nil {
		return lost
	}
	return err
}
