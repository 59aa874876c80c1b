// Package node is the process with credentials beside an agent: it watches the
// objects that concern one Node, renders them, and pushes the result to the
// agent over the admin protocol. It shows the agent's state in the OnlinkNode and
// the Node, and serves the block registry to the agent.
//
// It keeps nothing on disk but the agent's certificate ([certifier]): the agent has
// the last good configuration and announcements. A watch that fails keeps the objects
// it had, and nothing is rendered before every watch has listed once, so that neither
// a dead API server nor a revoked right looks like a deletion.
//
// One goroutine renders and pushes ([desire]) and calls no API server itself; one
// writes to it ([reporter]), so that a slow one delays no announcement; one drains
// ([drainer]); one receives the agent's status ([link]). They share the stores of
// the watches and the latest values, each behind its own lock.
package node
