package render

// Render returns the configuration of the node. The error says that nothing can be
// rendered (no OnlinkConfig, a Node without an address); the caller keeps what is
// in force.
func Render(in *Input) (*Output, error) {
	self, err := readSelf(in)
	if err != nil {
		return nil, err
	}
	l := newLedger(in)
	cur := readCurrent(in.Current, l)
	b := readBase(in, cur, l)
	ros := readRoster(in, self, l)
	readFormer(in, ros, cur, l)
	pools := choosePools(in, self, ros, cur, l)
	pools.avoid(ros, l)
	c := readCluster(self, ros, b, pools, cur, l)
	filters := chooseFilters(in, self, b, cur, l)
	peers := choosePeers(&peerContext{in: in, self: self, base: b, cluster: c, filters: filters, pools: pools, roster: ros}, cur, l)

	l.out.Isolated = c.isolated(ros, b, len(peers.list))
	f := assemble(self, b, c, peers, pools, l)
	out := l.out
	if out.Config, err = encode(f); err != nil {
		return nil, err
	}
	if kept := f.keeping(cur); kept != nil {
		if out.Kept, err = encode(kept); err != nil {
			return nil, err
		}
		out.Silent = silent(f, kept, ros, cur)
	}
	out.Vanished = vanished(in, cur)
	chooseNamespaces(in, pools, l)
	renderServices(in, self, f, peers, pools, l)
	l.finish()
	return out, nil
}
