package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/config"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/network"
)

func (a *app) networkGroup() *cobra.Command {
	return a.group("network", "Work with networks", a.networkConnect(), a.networkCreate(), a.networkDisconnect(), a.networkInspect(), a.networkLs(),
		a.networkPrune(), a.networkReload(), a.networkRm(), a.networkRuleGroup())
}

func (a *app) networkCreate() *cobra.Command {
	var o network.CreateOptions
	var subnets, ranges, gateways, aux, options, labels []string
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] NETWORK",
		Short: "Make a network",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			var err error
			if o.Options, err = keyValues("opt", options); err != nil {
				return err
			}
			if o.Labels, err = keyValues("label", labels); err != nil {
				return err
			}
			if o.Pools, err = pools(subnets, ranges, gateways, aux); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				n, err := e.CreateNetwork(cmd.Context(), o)
				if err == nil {
					fmt.Fprintln(a.out, n.ID)
				}
				return err
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&o.Driver, "driver", "d", "bridge", "driver of the network: bridge")
	fl.StringArrayVarP(&options, "opt", "o", nil, "option of the driver: KEY=VALUE")
	fl.StringSliceVar(&subnets, "subnet", nil, "addresses of the network: 10.1.0.0/16; one of IPv4, one of IPv6")
	fl.StringSliceVar(&ranges, "ip-range", nil, "part of a subnet out of which containers get addresses")
	fl.StringSliceVar(&gateways, "gateway", nil, "address of this machine in a subnet")
	fl.StringSliceVar(&aux, "aux-address", nil, "an address that is somebody else's: NAME=ADDRESS")
	fl.BoolVar(&o.IPv6, "ipv6", false, "give containers IPv6 addresses too")
	fl.BoolVar(&o.Internal, "internal", false, "no way out of the network, nor into it")
	fl.BoolVar(&o.Attachable, "attachable", false, "kept for docker's sake: every network is")
	fl.StringArrayVar(&labels, "label", nil, "set a label on the network")
	return cmd
}

// pools puts the parts of each subnet together: a range, a gateway and an address of others' belong to the subnet they lie in.
func pools(subnets, ranges, gateways, aux []string) ([]network.Pool, error) {
	var list []network.Pool
	for _, s := range subnets {
		p, err := network.ParsePool(s, "", "")
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	of := func(what, text string, addr netip.Addr) (*network.Pool, error) {
		i := slices.IndexFunc(list, func(p network.Pool) bool { return p.Subnet.Contains(addr) })
		if i < 0 {
			return nil, errdef.WithHint(fmt.Errorf("no matching subnet for %s %s: %w", what, text, errdef.ErrInvalid), "give a --subnet that it lies in")
		}
		return &list[i], nil
	}
	for _, r := range ranges {
		pre, err := netip.ParsePrefix(r)
		if err != nil {
			return nil, fmt.Errorf("invalid ip-range %.60s: %w", r, errdef.ErrInvalid)
		}
		p, err := of("range", r, pre.Addr())
		if err != nil {
			return nil, err
		}
		p.Range = pre.Masked()
	}
	for _, g := range gateways {
		addr, err := netip.ParseAddr(g)
		if err != nil {
			return nil, fmt.Errorf("invalid gateway address: %.60s: %w", g, errdef.ErrInvalid)
		}
		p, err := of("gateway", g, addr)
		if err != nil {
			return nil, err
		}
		p.Gateway = addr
	}
	for _, x := range aux {
		name, text, _ := strings.Cut(x, "=")
		addr, err := netip.ParseAddr(text)
		if err != nil || name == "" {
			return nil, fmt.Errorf("invalid aux-address %.60s: want NAME=ADDRESS: %w", x, errdef.ErrInvalid)
		}
		p, err := of("aux-address", x, addr)
		if err != nil {
			return nil, err
		}
		if p.Aux == nil {
			p.Aux = map[string]netip.Addr{}
		}
		p.Aux[name] = addr
	}
	return list, nil
}

func (a *app) networkRm() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm NETWORK [NETWORK...]",
		Aliases: []string{"remove"},
		Short:   "Remove networks",
		Args:    atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				var errs []error
				for _, name := range args {
					err := e.RemoveNetwork(cmd.Context(), name)
					switch {
					case err == nil:
						fmt.Fprintln(a.out, name)
					case !force || !errors.Is(err, errdef.ErrNotFound):
						errs = append(errs, err)
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "a network that there is not is no error")
	return cmd
}

func (a *app) networkReload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the firewall rules of all networks anew, after another program has removed them",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error { return e.Networks().Reload(cmd.Context()) })
		},
	}
}

func (a *app) networkConnect() *cobra.Command {
	var at network.Attachment
	var ip, ip6 string
	cmd := &cobra.Command{
		Use:   "connect [OPTIONS] NETWORK CONTAINER",
		Short: "Put a container into a network",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			at.Network = args[0]
			var err error
			if at.IPv4, err = parseAddress(ip, netip.Addr.Is4); err != nil {
				return err
			}
			if at.IPv6, err = parseAddress(ip6, netip.Addr.Is6); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error { return e.Connect(cmd.Context(), args[1], at) })
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&at.Aliases, "alias", nil, "one more name of the container in the network")
	fl.StringVar(&ip, "ip", "", "IPv4 address in the network")
	fl.StringVar(&ip6, "ip6", "", "IPv6 address in the network")
	return cmd
}

func (a *app) networkDisconnect() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "disconnect [OPTIONS] NETWORK CONTAINER",
		Short: "Take a container out of a network",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				err := e.Disconnect(cmd.Context(), args[1], args[0])
				if force && errors.Is(err, errdef.ErrNotFound) {
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "a container that there is not is no error")
	return cmd
}

func (a *app) networkLs() *cobra.Command {
	var quiet, noTrunc bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List networks",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := engine.ParseNetworkFilter(filters)
			if err != nil {
				return err
			}
			if format, err = a.format(format, quiet, func(d config.Docker) string { return d.NetworksFormat }); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				all, err := e.Networks().List()
				if err != nil {
					return err
				}
				var rows []render.NetworkRow
				for _, n := range all {
					members, err := e.Networks().Members(n)
					if err != nil {
						return err
					}
					if filter.Match(n, len(members)) {
						rows = append(rows, networkRow(n, noTrunc))
					}
				}
				list := render.List{Format: format, Columns: render.NetworkColumns(), Quiet: quiet}
				if quiet {
					list.Format = ""
				}
				return render.Rows(a.out, list, rows)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&quiet, "quiet", "q", false, "show ids only")
	fl.BoolVar(&noTrunc, "no-trunc", false, "show whole ids")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	filterVar(cmd, &filters, "f", "show only networks for which it holds: driver= id= label= name= scope= type= dangling=")
	return cmd
}

func networkRow(n network.Network, noTrunc bool) render.NetworkRow {
	return render.NetworkRow{
		ID: render.ID(n.ID, noTrunc), Name: n.Name, Driver: n.Driver, Scope: "local", IPv4: "true", IPv6: strconv.FormatBool(n.IPv6),
		Internal: strconv.FormatBool(n.Internal), Labels: render.Labels(n.Labels), LabelValues: n.Labels, CreatedAt: render.Stamp(n.Created),
	}
}

func (a *app) networkInspect() *cobra.Command {
	var format string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NETWORK [NETWORK...]",
		Short: "Show all that is known of networks",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inspectEach(cmd.Context(), args, format, func(e *engine.Engine, name string) (any, error) {
				return networkDocument(cmd.Context(), e, name)
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print with a template, or json")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "all is shown anyway")
	_ = cmd.Flags().MarkHidden("verbose") // fails only for a flag that is not there
	return cmd
}

func networkDocument(ctx context.Context, e *engine.Engine, name string) (doc render.NetworkInspect, err error) {
	n, err := e.Networks().Lookup(name)
	if err != nil {
		return doc, err
	}
	s, err := e.Containers()
	if err == nil {
		err = s.ClearNetworks(ctx)
	}
	if err != nil {
		return doc, err
	}
	members, err := e.Networks().Members(n)
	if err != nil {
		return doc, err
	}
	doc = render.NetworkInspect{
		Name: n.Name, ID: n.ID, Created: render.Time(n.Created), Scope: "local", Driver: n.Driver, EnableIPv4: true, EnableIPv6: n.IPv6,
		IPAM: render.NetworkIPAM{Driver: "default", Config: []render.NetworkPool{}}, Internal: n.Internal, Attachable: n.Attachable,
		Containers: map[string]render.NetworkMember{}, Options: n.Options, Labels: n.Labels,
	}
	if doc.Options == nil {
		doc.Options = map[string]string{}
	}
	if doc.Labels == nil {
		doc.Labels = map[string]string{}
	}
	for _, p := range n.Pools {
		pool := render.NetworkPool{Subnet: p.Subnet.String(), Gateway: p.Gateway.String()}
		if p.Range.IsValid() {
			pool.IPRange = p.Range.String()
		}
		for name, addr := range p.Aux {
			if pool.AuxiliaryAddresses == nil {
				pool.AuxiliaryAddresses = map[string]string{}
			}
			pool.AuxiliaryAddresses[name] = addr.String()
		}
		doc.IPAM.Config = append(doc.IPAM.Config, pool)
	}
	for _, m := range members {
		doc.Containers[m.Owner.ID] = render.NetworkMember{
			Name: m.Owner.Name, EndpointID: m.ID, MacAddress: m.MAC, IPv4Address: prefixText(m.IPv4), IPv6Address: prefixText(m.IPv6),
		}
	}
	for _, r := range n.Rules {
		doc.Rules = append(doc.Rules, ruleRow(r))
	}
	return doc, nil
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// bits is the length of a prefix, 0 when there is none.
func bits(p netip.Prefix) int { return max(p.Bits(), 0) }
