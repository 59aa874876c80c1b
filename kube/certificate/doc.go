// Package certificate is what the controller and the nodes share about the
// certificates of agents: what a request has and when it is granted ([Judge]), the
// authority with its rotation ([Ring]), and the files that an agent reads ([Folder]).
// It calls no API server.
package certificate

// Names in the cluster.
const (
	// Signer is the signerName of the requests.
	Signer = "onlink.io/node"
	// Name is that of the Secret with the authority, in a namespace of its own, and of
	// the ConfigMap with its certificates, in onlink's.
	Name = "onlink-ca"
	// RotateAnnotation on the Secret has the controller make the next authority.
	RotateAnnotation = "onlink.io/rotate"
)

// Namespace returns the namespace of the authority's Secret beside that of onlink,
// where the nodes read all Secrets: who has the authority's key has every role.
func Namespace(onlink string) string { return onlink + "-ca" }
