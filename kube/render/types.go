package render

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// Input is everything that the configuration of a node depends on. Lists may have
// any order; objects are read only.
type Input struct {
	Node   *corev1.Node           // this node
	Config *v1alpha1.OnlinkConfig // nil: absent, which is an error and never an empty configuration

	Peers          []*v1alpha1.BGPPeer
	Filters        []*v1alpha1.BGPFilter
	Pools          []*v1alpha1.IPPool
	Advertisements []*v1alpha1.ServiceAdvertisement
	Reflectors     []*corev1.Node // Nodes with the label onlink.io/reflector
	Nodes          []*corev1.Node // all Nodes, while [Output.NeedsAllNodes]; nil otherwise
	// Heard are the addresses of peers whose session is up, or ended less than an
	// assert period ago. A session in force stays while it is heard, also when its
	// Node is deleted: the machine may be cut off from the API server and run on, and
	// its announcements prove that its blocks are in use.
	// It is read where [Output].NeedsHeard says so.
	Heard map[netip.Addr]bool
	// Former are the names of Nodes that this process saw as reflectors, and that are
	// none any more: they are deleted, or lost the label. [Output].Former are those that
	// are still to be in it.
	Former []string
	// Crowded: the cluster has more than [MaxMesh] Nodes, by the last count. A mesh
	// then stays as it is, and no node watches all Nodes for it.
	Crowded    bool
	Namespaces []*metav1.PartialObjectMetadata
	Services   []*corev1.Service // while [Output.NeedsServices]; nil otherwise
	Slices     []*discoveryv1.EndpointSlice

	// Password returns a TCP MD5 key. An error rejects the object that names it.
	Password func(v1alpha1.SecretKey) ([]byte, error)
	// Current is onlinkd.yaml in force, as the agent returned it. Of an object that
	// is broken now its entry stays.
	Current []byte
	// Announced are the announcements in force, as the agent returned them. Of a
	// ServiceAdvertisement that is broken now their attributes stay.
	Announced []Announcement
	// Broken are the objects that the agent rejected in a dry run, and why.
	Broken map[Object]string
	// Draining: services are announced with GRACEFUL_SHUTDOWN, before the agent's
	// drain withdraws them.
	Draining bool
	// Forwards reports whether the service proxy of this node (kube-proxy) forwards
	// the connections of a Service. It is called for those of which an address is to be
	// announced that is not in force. With a health check node port the answer is that
	// port's: the proxy forwards to an endpoint on this node. A Service that comes
	// without one (policy Cluster, or Local for cluster IPs alone; render removes the
	// port in a copy where it does not decide) is answered by the proxy's own health
	// (kube-proxy: port 10256, /healthz), which is the same for all of them: on a new
	// node it has not started yet, and drops what comes. nil: it forwards.
	Forwards func(node netip.Addr, svc *corev1.Service) bool
}

// Object names an object of the cluster.
type Object struct{ Kind, Name string }

// Output is the configuration of a node, and the reasons for it.
type Output struct {
	Config        []byte              // onlinkd.yaml
	Kept          []byte              // Config with what is in force and has no object any more; nil: that is nothing
	Keys          map[string][]byte   // key files by name, which Config names as [KeyFolder]/NAME
	Announcements []Announcement      // in order
	Namespaces    map[string][]string // pools of the namespaces that differ from the default
	Services      []v1alpha1.NodeService
	Rejected      []v1alpha1.RejectedObject
	Problems      []string // one line each: the fault and the remedy
	// Sources maps fields of Config to the objects that they come from:
	// "bgp.peers[2]". See [Output.Source].
	Sources map[string]Object
	// NeedsServices: an advertisement selects this node. Without Input.Services the
	// announcements in force must stay: those of this output are none.
	NeedsServices bool
	// Unlisted: NeedsServices, and there is no Input.Services.
	Unlisted bool
	// Reasons are why each address in Services is announced or not.
	Reasons map[netip.Addr]Reason
	// NeedsAllNodes: this node is in a mesh, a reflector without configured ranges of
	// clients, or one that hears a former reflector: a Node that only lost the label is
	// its client. Without Input.Nodes the configuration in force must stay:
	// that of this output has no session with the nodes that are missing.
	NeedsAllNodes bool
	// NeedsHeard: sessions may outlive their Nodes. Without Input.Heard none does.
	NeedsHeard bool
	// Former are those of Input.Former that have a session in force.
	Former []string
	// Crowded: there are no reflectors, and too many Nodes for a mesh.
	Crowded bool
	// Isolated: Config has no session of this node inside the cluster, and it should
	// have one, so the other nodes do not learn its blocks: the key of the sessions is
	// missing, the mesh is full, the reflectors or the mesh are of another family, or
	// there is neither a mesh nor a reflector nor a BGPPeer. The only node of a mesh
	// and the only reflector are not isolated; where a mesh or reflectors are wanted, a
	// BGPPeer takes the place of none of their sessions. Problems says which it is.
	Isolated bool
	// Lingers: a session of a deleted Node stays because it is heard. Render again
	// when it may have ended.
	Lingers bool
	// Silent: all that Config removes of what is in force are sessions of Nodes that are
	// deleted and were not heard.
	Silent bool
	// Vanished are the kinds without an object, of which something is in force.
	Vanished []string
}

// Reason is the kind of thing that decides about an address of a Service.
type Reason int

const (
	// ReasonElsewhere means other objects, such as the ServiceAdvertisements that select the
	// Service.
	ReasonElsewhere Reason = iota
	// ReasonNode means the node as it is configured, such as its sessions.
	ReasonNode
	// ReasonService means the Service itself, such as its endpoints.
	ReasonService
)

// Announcement is a prefix that this node announces besides its blocks: the plain
// form of the admin protocol's message.
type Announcement struct {
	Prefix           string
	Communities      []string
	LocalPref        *uint32
	MED              *uint32
	Peers            []string // names of the only peers to receive it, sorted; empty: all
	GracefulShutdown bool
	Reason           string
}

// KeyFolder is the folder of key files in the agent's file system: keys in its
// paths.state.
const KeyFolder = "/var/lib/onlink/keys"

// The kinds of the objects of group onlink.io that a node's configuration is made
// of.
const (
	kindConfig        = "OnlinkConfig"
	kindPeer          = "BGPPeer"
	kindFilter        = "BGPFilter"
	kindPool          = "IPPool"
	kindAdvertisement = "ServiceAdvertisement"
)

// Source returns the object that a field of Config comes from: that of the field
// itself or of the nearest one around it.
func (o *Output) Source(field string) (Object, bool) {
	for field != "" {
		if obj, ok := o.Sources[field]; ok {
			return obj, true
		}
		field = around(field)
	}
	return Object{}, false
}

// around returns the field that a field is in: of "a.b[2].c" it is "a.b[2]", then
// "a.b", then "a".
func around(field string) string {
	for i := len(field) - 1; i >= 0; i-- {
		if field[i] == '.' || field[i] == '[' {
			return field[:i]
		}
	}
	return ""
}

// maxReason is the longest reason that the agent takes, in bytes.
const maxReason = 256

// final returns the announcement with the attributes of a shutdown, and a reason
// that the agent takes.
func (a Announcement) final() Announcement {
	if len(a.Reason) > maxReason {
		a.Reason = strings.ToValidUTF8(a.Reason[:maxReason-3], "") + "..."
	}
	if a.GracefulShutdown {
		a.LocalPref = new(uint32(0)) // RFC 8326 section 4.2
	}
	return a
}
