package cli

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/network"
)

func (a *app) networkRuleGroup() *cobra.Command {
	return a.group("rule", "Say who may talk to whom in a network", a.networkRuleAdd(), a.networkRuleLs(), a.networkRuleRm())
}

const ruleNote = `Rules say who may open connections to whom within a network; the first that fits decides, and what no rule fits is allowed
(in a network made with -o com.docker.network.bridge.enable_icc=false: refused). Containers are named by name or alias; the
rules follow them when they are restarted. They hold at once, for new connections.`

func (a *app) networkRuleAdd() *cobra.Command {
	var rule network.Rule
	var port string
	var allow, deny bool
	var at int
	cmd := &cobra.Command{
		Use:   "add [OPTIONS] NETWORK",
		Short: "Add a rule to a network",
		Long:  "Add a rule to a network.\n\n" + ruleNote,
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if allow == deny {
				return usagef("give either --allow or --deny")
			}
			rule.Allow = allow
			if port != "" {
				p, err := network.ParsePort(port)
				if err != nil {
					return usageError{err}
				}
				rule.Port = p
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				return e.Networks().SetRules(cmd.Context(), args[0], func(rules []network.Rule) ([]network.Rule, error) {
					if at < 0 || at > len(rules)+1 {
						return nil, fmt.Errorf("--at %d: the network has %d rules: %w", at, len(rules), errdef.ErrInvalid)
					}
					if at == 0 {
						return append(rules, rule), nil
					}
					return slices.Insert(rules, at-1, rule), nil
				})
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&rule.From, "from", "", "container that opens the connection; everybody unless given")
	fl.StringVar(&rule.To, "to", "", "container that is connected to; everybody unless given")
	fl.StringVar(&port, "port", "", "port that is connected to: 5432, 53/udp; all traffic unless given")
	fl.BoolVar(&allow, "allow", false, "allow it")
	fl.BoolVar(&deny, "deny", false, "drop it")
	fl.IntVar(&at, "at", 0, "place among the rules, 1 is the first; the end unless given")
	return cmd
}

func (a *app) networkRuleLs() *cobra.Command {
	return &cobra.Command{
		Use:     "ls NETWORK",
		Aliases: []string{"list"},
		Short:   "List the rules of a network in their order",
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				n, err := e.Networks().Lookup(args[0])
				if err != nil {
					return err
				}
				var rows [][]string
				for i, r := range n.Rules {
					row := ruleRow(r)
					rows = append(rows, []string{strconv.Itoa(i + 1), row.Action, row.From, row.To, row.Port})
				}
				return render.Table(a.out, []string{"NUMBER", "ACTION", "FROM", "TO", "PORT"}, rows)
			})
		},
	}
}

// ruleRow shows a rule; "*" is everybody, and all traffic.
func ruleRow(r network.Rule) render.NetworkRule {
	row := render.NetworkRule{From: r.From, To: r.To, Port: "*", Action: "deny"}
	if r.Allow {
		row.Action = "allow"
	}
	if row.From == "" {
		row.From = "*"
	}
	if row.To == "" {
		row.To = "*"
	}
	if r.Port.Protocol != "" {
		row.Port = r.Port.String()
	}
	return row
}

func (a *app) networkRuleRm() *cobra.Command {
	return &cobra.Command{
		Use:     "rm NETWORK NUMBER [NUMBER...]",
		Aliases: []string{"remove"},
		Short:   "Remove rules of a network by their numbers",
		Args:    atLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var numbers []int
			for _, text := range args[1:] {
				n, err := strconv.Atoi(text)
				if err != nil {
					return usagef("%.40q is no number of a rule", text)
				}
				numbers = append(numbers, n)
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				return e.Networks().SetRules(cmd.Context(), args[0], func(rules []network.Rule) ([]network.Rule, error) {
					var kept []network.Rule
					for i, r := range rules {
						if !slices.Contains(numbers, i+1) {
							kept = append(kept, r)
						}
					}
					if len(kept)+len(numbers) != len(rules) {
						return nil, fmt.Errorf("the network has %d rules: %w", len(rules), errdef.ErrNotFound)
					}
					return kept, nil
				})
			})
		},
	}
}

// networkNames are the networks of a container, or its network mode.
func networkNames(rec container.Record) []string {
	if len(rec.Host.Networks) == 0 {
		return []string{rec.Host.Network}
	}
	var names []string
	for _, a := range rec.Host.Networks {
		names = append(names, a.Network)
	}
	return names
}

// networkSettings is how a container is connected; one that does not run has networks, and no addresses in them.
func networkSettings(e *engine.Engine, s *container.Store, rec container.Record) (render.NetworkSettings, error) {
	doc := render.NetworkSettings{Ports: boundPorts(rec), Networks: map[string]*render.EndpointSettings{}}
	for _, name := range networkNames(rec) {
		if n, err := e.Networks().Lookup(name); err == nil {
			doc.Networks[name] = &render.EndpointSettings{NetworkID: n.ID}
		}
	}
	asked := map[string]*render.EndpointAddresses{}
	for _, a := range rec.Host.Networks {
		asked[a.Network] = askedAddresses(a)
		if d := doc.Networks[a.Network]; d != nil {
			d.Aliases, d.IPAMConfig = a.Aliases, asked[a.Network]
		}
	}
	endpoints, err := s.Endpoints(rec)
	if err != nil {
		return doc, err
	}
	if rec.State.Alive() {
		doc.SandboxID, doc.SandboxKey = rec.ID, fmt.Sprintf("/proc/%d/ns/net", rec.State.Pid)
	}
	for _, ep := range endpoints {
		d := &render.EndpointSettings{
			IPAMConfig: asked[ep.Network], Aliases: ep.Aliases, NetworkID: ep.NetworkID, EndpointID: ep.ID, MacAddress: ep.MAC, Gateway: addrText(ep.Gateway4), IPv6Gateway: addrText(ep.Gateway6),
			IPAddress: addrText(ep.IPv4.Addr()), GlobalIPv6Address: addrText(ep.IPv6.Addr()), IPPrefixLen: bits(ep.IPv4), GlobalIPv6PrefixLen: bits(ep.IPv6),
		}
		if ep.Named {
			d.DNSNames = ep.Names()
		} else {
			doc.EndpointID, doc.MacAddress, doc.IPAddress, doc.IPPrefixLen, doc.Gateway = d.EndpointID, d.MacAddress, d.IPAddress, d.IPPrefixLen, d.Gateway
			doc.GlobalIPv6Address, doc.GlobalIPv6PrefixLen, doc.IPv6Gateway = d.GlobalIPv6Address, d.GlobalIPv6PrefixLen, d.IPv6Gateway
		}
		doc.Networks[ep.Network] = d
	}
	return doc, nil
}

// askedAddresses is nil where the container takes the addresses that come.
func askedAddresses(a network.Attachment) *render.EndpointAddresses {
	if !a.IPv4.IsValid() && !a.IPv6.IsValid() && len(a.LinkLocal) == 0 {
		return nil
	}
	doc := &render.EndpointAddresses{IPv4Address: addrText(a.IPv4), IPv6Address: addrText(a.IPv6)}
	for _, addr := range a.LinkLocal {
		doc.LinkLocalIPs = append(doc.LinkLocalIPs, addr.String())
	}
	return doc
}
