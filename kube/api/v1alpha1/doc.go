// Package v1alpha1 has the objects of onlink in a Kubernetes cluster, group
// onlink.io. Their fields have the names and meanings of the keys of
// onlinkd.yaml. Custom resource definitions (deploy/kubernetes/crds), deep
// copies and the reference page are generated from this package.
//
// +kubebuilder:object:generate=true
// +groupName=onlink.io
package v1alpha1
