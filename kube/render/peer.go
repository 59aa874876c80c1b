package render

import "onlink/kube/api/v1alpha1"

// peerOf returns the entry of an object, without its key.
func peerOf(obj *v1alpha1.BGPPeer) peer {
	s := &obj.Spec
	p := peer{
		Name: obj.Name, Interface: s.Interface, Port: s.Port, ASN: s.ASN, LocalASN: s.LocalASN,
		Client: s.Client, Passive: s.Passive, HoldTime: s.HoldTime, Keepalive: s.Keepalive, ConnectRetry: s.ConnectRetry,
		BFD: s.BFD, TTLSecurity: s.TTLSecurity, Multihop: s.Multihop, AllowOwnAS: s.AllowOwnAS,
		LongLivedRestart: s.LongLivedRestart, Import: s.Import, Export: s.Export,
	}
	p.Address = s.Address
	return p
}

// external reports whether the session is eBGP for a node of AS asn.
func (p *peer) external(asn int64) bool { return p.ASN != 0 && p.ASN != asn }

// filters returns the names of the peer's filters.
func (p *peer) filters(export bool) []string {
	switch {
	case export && p.Export != nil:
		return p.Export.Filters
	case !export && p.Import != nil:
		return p.Import.Filters
	}
	return nil
}
