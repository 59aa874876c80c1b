package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"

	"onlink/cni/pod"
	onlinkv1 "onlink/proto/v1"
)

// verb is a CNI operation the agent serves.
type verb struct {
	name  string
	since string // first version that has it; empty: all

	// read reads the fields that the verb needs from the call, and checks no
	// others. Runtimes repeat DEL until it succeeds: a pod whose DEL failed for a
	// field of ADD alone, such as its annotations, could never be deleted.
	read func(*request, *onlinkv1.CNIRequest) error
}

// versions are the CNI versions that onlink serves, oldest first.
var versions = []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// newestVersion is the version of answers to callers whose own is unreadable.
const newestVersion = "1.1.0"

// maxContainerID keeps container IDs within an interface alias; runtimes use
// 64 characters.
const maxContainerID = 128

// netConf holds the keys of a network configuration that ADD reads; the
// specification allows others. Other verbs read fewer.
type netConf struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`

	MTU   int      `json:"mtu"`   // of the pod's interface; 0: the agent's choice
	Pools []string `json:"pools"` // names of pools to take addresses from
	// Sticky: every pod with a name gets its addresses again.
	Sticky bool      `json:"sticky"`
	DNS    types.DNS `json:"dns"`
	// Sysctls are extra settings of the pod, by name with dots.
	Sysctls map[string]string `json:"sysctls"`

	RuntimeConfig struct {
		// Annotations is a capability of containerd and CRI-O.
		Annotations map[string]string `json:"io.kubernetes.cri.pod-annotations"`

		IPs []string `json:"ips"` // capability "ips"
		MAC string   `json:"mac"` // capability "mac"
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs    []string `json:"ips"`
			Pools  []string `json:"pools"`
			Sticky string   `json:"sticky"`
		} `json:"cni"`
	} `json:"args"`

	PrevResult       json.RawMessage `json:"prevResult"`
	ValidAttachments json.RawMessage `json:"cni.dev/valid-attachments"`
}

// request is one call, read and validated.
type request struct {
	Attachment
	verb verb
	conf netConf
	ask  Ask
	// pooled: the pod names its pools, and ask.Pools are not the configuration's.
	pooled bool
	mac    net.HardwareAddr // nil: [pod.MAC]

	sysctls []pod.Sysctl
}

// version returns the version to answer in. An unreadable one is not echoed.
func (r *request) version() string {
	if slices.Contains(versions, r.conf.CNIVersion) {
		return r.conf.CNIVersion
	}
	return newestVersion
}

// confError tells a text that is no JSON from a field of the wrong type.
func confError(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("%w: %s: want %s, not %s", ErrConfig, wrong.Field, wrong.Type, wrong.Value)
	}
	return fmt.Errorf("%w: %w", ErrDecode, err)
}

func (r *request) checkVersion() error {
	have := r.conf.CNIVersion
	if have == "" {
		have = "0.1.0" // the version of a configuration without the key
	}
	if !slices.Contains(versions, have) {
		return fmt.Errorf("%w: cniVersion: %q; use one of %s", ErrVersion, have, strings.Join(versions, ", "))
	}
	if r.verb.since != "" && slices.Index(versions, have) < slices.Index(versions, r.verb.since) {
		return fmt.Errorf("%w: cniVersion: %s does not have %s; it needs %s", ErrVersion, have, r.verb.name, r.verb.since)
	}
	return nil
}

// named refuses a call that does not identify its attachment.
func (r *request) named() error {
	if r.ContainerID == "" {
		return fmt.Errorf("%w: CNI_CONTAINERID is empty", ErrEnvironment)
	}
	if r.IfName == "" {
		return fmt.Errorf("%w: CNI_IFNAME is empty", ErrEnvironment)
	}
	return nil
}

// checkAttachment refuses container IDs and interface names that no attachment of
// ours can have.
func (r *request) checkAttachment() error {
	if err := r.named(); err != nil {
		return err
	}
	if err := utils.ValidateContainerID(r.ContainerID); err != nil {
		return fmt.Errorf("%w: CNI_CONTAINERID: %s", ErrEnvironment, err.Error())
	}
	if len(r.ContainerID) > maxContainerID {
		return fmt.Errorf("%w: CNI_CONTAINERID: longer than %d characters", ErrEnvironment, maxContainerID)
	}
	if err := utils.ValidateInterfaceName(r.IfName); err != nil {
		return fmt.Errorf("%w: CNI_IFNAME: %s", ErrEnvironment, err.Error())
	}
	if strings.ContainsFunc(r.IfName, func(c rune) bool { return c < '!' || c > '~' || c == '%' }) {
		// The kernel expands % in names, and the alias is plain text.
		return fmt.Errorf("%w: CNI_IFNAME: use printable ASCII without %%", ErrEnvironment)
	}
	if r.IfName == "lo" || r.IfName == "all" || r.IfName == "default" {
		return fmt.Errorf("%w: CNI_IFNAME: %s is a name of the kernel's own", ErrEnvironment, r.IfName)
	}
	if r.Netns == "" {
		return fmt.Errorf("%w: CNI_NETNS is empty", ErrEnvironment)
	}
	return nil
}

// parseAddress reads an address with or without a prefix length: runtimes pass
// both forms.
func parseAddress(s string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr().Unmap(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	}
	return addr.Unmap(), nil
}
