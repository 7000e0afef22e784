package engine

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"strata/internal/build"
	"strata/internal/container"
	"strata/internal/network"
)

// stepNetworks gives the steps of one build namespaces in the default network. One that a step is done with is the next one's, and
// while a step runs another is made ready: steps wait for none. A step without rights leaves nothing in it that the next could notice.
type stepNetworks struct {
	e      *Engine
	shared bool // containers cannot have networks here: steps share the machine's

	once sync.Once
	err  error

	mu    sync.Mutex
	made  *sync.Cond // something was made ahead, or could not be
	ahead int        // how many are just being made so
	count int
	free  []*stepNetwork
	all   []*stepNetwork
}

func newStepNetworks(e *Engine) *stepNetworks {
	p := &stepNetworks{e: e}
	p.made = sync.NewCond(&p.mu)
	return p
}

// stepNetwork is one of them.
type stepNetwork struct {
	sandbox *network.Sandbox
	owner   string
	stop    func() // ends the answers to its questions for names; nil when there are none
}

const stepOwner = "build-"

// take lends a namespace to a step; the step's own is not used again when it had rights. The zero StepNetwork is this machine's.
func (p *stepNetworks) take(ctx context.Context, rights bool) (build.StepNetwork, error) {
	p.once.Do(func() { p.err = p.begin() })
	if p.err != nil || p.shared {
		return build.StepNetwork{Release: func() {}}, p.err
	}
	n := p.ready()
	if n == nil {
		var err error
		if n, err = p.make(ctx); err != nil {
			return build.StepNetwork{}, err
		}
	}
	p.prepare(ctx)
	lent := build.StepNetwork{Path: n.sandbox.Path(), Release: func() {
		if !rights {
			p.giveBack(n)
		}
	}}
	if n.stop != nil {
		lent.Servers = []string{network.ResolverAddr}
	}
	return lent, nil
}

// begin clears away what killed builds left.
func (p *stepNetworks) begin() error {
	networks := p.e.Networks()
	if networks.Available() != nil {
		p.shared = true
		return nil
	}
	owners, err := networks.Owners()
	if err != nil {
		return err
	}
	var errs []error
	for _, owner := range owners {
		if lease, ok := leaseOf(owner); ok && !p.e.leases.Alive(lease) {
			errs = append(errs, networks.Release(owner))
		}
	}
	return errors.Join(errs...)
}

// leaseOf reads the name of the build's lease out of an owner's.
func leaseOf(owner string) (string, bool) {
	rest, ok := strings.CutPrefix(owner, stepOwner)
	i := strings.LastIndexByte(rest, '-')
	if !ok || i < 0 {
		return "", false
	}
	return rest[:i], true
}

// ready takes one that is free, or that is just being made; nil when there is none.
func (p *stepNetworks) ready() *stepNetwork {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.free) == 0 && p.ahead > 0 {
		p.made.Wait()
	}
	if len(p.free) == 0 {
		return nil
	}
	n := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return n
}

func (p *stepNetworks) giveBack(n *stepNetwork) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, n)
	p.made.Signal() // who waits for another takes this
}

// prepare makes one ready for a step that comes while all others are in use.
func (p *stepNetworks) prepare(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) > 0 || p.ahead > 0 {
		return
	}
	p.ahead++
	go func() {
		n, err := p.make(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err == nil { // else the step that needs it says why
			p.free = append(p.free, n)
		}
		p.ahead--
		p.made.Broadcast()
	}()
}

func (p *stepNetworks) make(ctx context.Context) (*stepNetwork, error) {
	l, err := p.e.acquire()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.count++
	owner := stepOwner + l.Name() + "-" + strconv.Itoa(p.count)
	p.mu.Unlock()
	n := &stepNetwork{owner: owner}
	if n.sandbox, err = network.NewSandbox(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.all = append(p.all, n)
	p.mu.Unlock()
	networks := p.e.Networks()
	if _, err := networks.Join(ctx, n.sandbox, network.Owner{ID: owner, Name: "build"}, network.Attachment{Network: network.Bridge}, 0); err != nil {
		return nil, err
	}
	if len(container.UsableServers()) == 0 {
		n.stop, err = networks.Resolve(ctx, n.sandbox, owner, network.ResolveOptions{Machine: container.MachineServers})
	}
	return n, err
}

// close gives all of them up. No step runs any more.
func (p *stepNetworks) close() error {
	p.mu.Lock()
	for p.ahead > 0 {
		p.made.Wait()
	}
	p.mu.Unlock()
	var errs []error
	for _, n := range p.all {
		if n.stop != nil {
			n.stop()
		}
		errs = append(errs, p.e.Networks().Release(n.owner))
		n.sandbox.Close()
	}
	return errors.Join(errs...)
}
