package pods

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"onlink/cni"
	"onlink/cni/pod"
	"onlink/ipam"
)

// kernelProblems compares the assignments with the kernel's state of the pods:
// veths, host routes, namespaces. before and after are the assignments before and
// after the kernel was read, so that pods which come and go in between are left
// out.
func kernelProblems(before, after []ipam.Assignment, wired []pod.Wired, table uint32) ([]string, error) {
	known := map[ipam.Handle]bool{}
	for _, as := range slices.Concat(before, after) {
		known[as.Handle] = true
	}
	devices := map[ipam.Handle]pod.Wired{}
	var out []string
	for _, w := range wired {
		h := Handle(w.Attachment)
		devices[h] = w
		if !known[h] && !w.Ended {
			out = append(out, fmt.Sprintf("pod %s/%s: its interface %s has no address in the database: restart the agent, which recovers it", w.Namespace, w.Pod, w.HostDevice))
		}
	}
	still := map[ipam.Handle]bool{}
	for _, as := range after {
		still[as.Handle] = true
	}
	for _, as := range before {
		if !still[as.Handle] {
			continue
		}
		texts, err := podProblems(as, devices, table)
		if err != nil {
			return nil, err
		}
		out = append(out, texts...)
	}
	return out, nil
}

// podProblems compares one assignment with its pod's interface.
func podProblems(as ipam.Assignment, devices map[ipam.Handle]pod.Wired, table uint32) ([]string, error) {
	pod := fmt.Sprintf("pod %s/%s (%s)", as.Namespace, as.Pod, as.Handle)
	w, ok := devices[as.Handle]
	if !ok {
		text := "its interface does not exist"
		if _, err := os.Stat(as.Netns); err != nil {
			text = "the pod is gone"
		}
		return []string{fmt.Sprintf("%s has %v, but %s", pod, as.Addresses, text)}, nil
	}
	routed, err := w.Addresses(table)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(routed, netip.Addr.Compare)
	if !slices.Equal(routed, as.Addresses) {
		return []string{fmt.Sprintf("%s has %v, but the kernel routes %v to %s", pod, as.Addresses, routed, w.HostDevice)}, nil
	}
	return nil, nil
}

// Check compares file, memory and kernel of the running agent.
func Check(ctx context.Context, alloc *ipam.Allocator, server *cni.Server, table uint32) ([]string, error) {
	out, err := alloc.Check(ctx)
	if err != nil {
		return nil, err
	}
	if err := server.WaitEnded(ctx); err != nil { // they have an address, but no route any more
		return nil, err
	}
	before := alloc.Assignments()
	wired, err := pod.ListWired()
	if err != nil {
		return nil, err
	}
	for _, q := range alloc.Quarantined() {
		out = append(out, q.String())
	}
	more, err := kernelProblems(before, alloc.Assignments(), wired, table)
	return append(out, more...), err
}
