package cni

import (
	"encoding/json"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"

	onlinkv1 "onlink/proto/v1"
)

// This file reads the calls. Each verb reads the fields it needs, and does not
// judge the others.

var (
	verbAdd    = verb{name: "ADD", read: (*request).readAdd}
	verbDel    = verb{name: "DEL", read: (*request).readDel}
	verbCheck  = verb{name: "CHECK", since: "0.4.0", read: (*request).readCheck}
	verbGC     = verb{name: "GC", since: "1.1.0", read: (*request).readLeast}
	verbStatus = verb{name: "STATUS", since: "1.1.0", read: (*request).readLeast}
)

// parseRequest reads a call. The returned request has the version of the answer
// even when the error is not nil.
func parseRequest(v verb, in *onlinkv1.CNIRequest) (*request, error) {
	r := &request{verb: v, Attachment: Attachment{ContainerID: in.GetContainerId(), IfName: in.GetIfname(), Netns: in.GetNetns()}}
	return r, v.read(r, in)
}

// readAdd reads the whole call: the pod's interface, and the parts of its result.
func (r *request) readAdd(in *onlinkv1.CNIRequest) error {
	if err := json.Unmarshal(in.GetConfig(), &r.conf); err != nil {
		return confError(err)
	}
	if err := r.checkVersion(); err != nil {
		return err
	}
	if err := utils.ValidateNetworkName(r.conf.Name); err != nil {
		return fmt.Errorf("%w: name: %s", ErrConfig, err.Error())
	}
	if err := r.checkAttachment(); err != nil {
		return err
	}
	args, err := parseArgs(in.GetArgs())
	if err != nil {
		return err
	}
	r.name(args)
	if err := r.readAsk(args); err != nil {
		return err
	}
	return r.readMade(args)
}

// readCheck reads the two things that CHECK compares with the kernel: the wiring
// of ADD, and its result.
func (r *request) readCheck(in *onlinkv1.CNIRequest) error {
	if err := r.readLeast(in); err != nil {
		return err
	}
	if err := r.checkAttachment(); err != nil {
		return err
	}
	var c struct {
		MTU           int               `json:"mtu"`
		Sysctls       map[string]string `json:"sysctls"`
		RuntimeConfig struct {
			Annotations map[string]string `json:"io.kubernetes.cri.pod-annotations"`
			MAC         string            `json:"mac"`
		} `json:"runtimeConfig"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err := json.Unmarshal(in.GetConfig(), &c); err != nil {
		return confError(err)
	}
	r.conf.MTU, r.conf.Sysctls, r.conf.PrevResult = c.MTU, c.Sysctls, c.PrevResult
	r.conf.RuntimeConfig.Annotations, r.conf.RuntimeConfig.MAC = c.RuntimeConfig.Annotations, c.RuntimeConfig.MAC
	args, _ := parseArgs(in.GetArgs()) // a mistake in ADD's arguments does not concern CHECK
	r.name(args)
	return r.readMade(args)
}

// readDel reads the attachment to end: the container's ID and the interface's
// name. The configuration only gives the version of the answer, and CNI_ARGS the
// pod's name for the log. A name that ADD refuses is no error: no attachment can
// have it, and so DEL has nothing left to do.
func (r *request) readDel(in *onlinkv1.CNIRequest) error {
	_ = r.readVersion(in)
	args, _ := parseArgs(in.GetArgs())
	r.name(args)
	return r.named()
}

// readLeast reads the version, and the list that GC keeps.
func (r *request) readLeast(in *onlinkv1.CNIRequest) error {
	if err := r.readVersion(in); err != nil {
		return err
	}
	return r.checkVersion()
}

// validAttachments returns the keys of the attachments that GC keeps.
func (r *request) validAttachments() (map[string]bool, error) {
	if len(r.conf.ValidAttachments) == 0 {
		return nil, fmt.Errorf("%w: cni.dev/valid-attachments is missing", ErrConfig)
	}
	var list []types.GCAttachment
	if err := json.Unmarshal(r.conf.ValidAttachments, &list); err != nil {
		return nil, fmt.Errorf("%w: cni.dev/valid-attachments: %w", ErrConfig, err)
	}
	valid := make(map[string]bool, len(list))
	for _, a := range list {
		valid[Attachment{ContainerID: a.ContainerID, IfName: a.IfName}.Key()] = true
	}
	return valid, nil
}

func (r *request) readVersion(in *onlinkv1.CNIRequest) error {
	var c struct {
		CNIVersion       json.RawMessage `json:"cniVersion"`
		ValidAttachments json.RawMessage `json:"cni.dev/valid-attachments"`
	}
	if err := json.Unmarshal(in.GetConfig(), &c); err != nil {
		return confError(err)
	}
	r.conf.ValidAttachments = c.ValidAttachments
	if len(c.CNIVersion) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.CNIVersion, &r.conf.CNIVersion); err != nil {
		return fmt.Errorf("%w: cniVersion: %s is not a string", ErrConfig, c.CNIVersion)
	}
	return nil
}

// name sets Kubernetes' names of the pod.
func (r *request) name(args podArgs) { r.Namespace, r.Pod, r.UID = args.namespace, args.pod, args.uid }

// MTU limits of a pod's interface: the minimum of IPv4, and the maximum of veth.
const (
	minMTU = 68
	maxMTU = 65535
)

// readMade reads the properties of the pod's interface besides its addresses.
func (r *request) readMade(args podArgs) error {
	if r.conf.MTU != 0 && (r.conf.MTU < minMTU || r.conf.MTU > maxMTU) {
		return fmt.Errorf("%w: mtu: %d; use %d to %d, or leave it out", ErrConfig, r.conf.MTU, minMTU, maxMTU)
	}
	if err := r.readSysctls(); err != nil {
		return err
	}
	return r.readMAC(args)
}

// readMAC reads the MAC address that the runtime chose.
func (r *request) readMAC(args podArgs) error {
	text, kind, field := r.conf.RuntimeConfig.MAC, ErrConfig, "runtimeConfig.mac"
	if text == "" {
		text, kind, field = args.mac, ErrEnvironment, "CNI_ARGS: MAC"
	}
	if text == "" {
		return nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return fmt.Errorf("%w: %s: %q is not a unicast Ethernet address", kind, field, text)
	}
	r.mac = mac
	return nil
}
