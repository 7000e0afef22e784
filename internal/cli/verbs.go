package cli

import "github.com/spf13/cobra"

// addVerbs hangs every verb where docker has it: most stand at the top and again under their noun.
func (a *app) addVerbs(root *cobra.Command) {
	in := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	in("build", a.build(), a.history())
	in("run", a.run(), a.create(), a.start(), a.stop(), a.kill(), a.exec(), a.attach(), a.logs(), a.ps(), a.wait(), a.rm(),
		a.commit(), a.export())
	in("image", a.images(), a.tag(), a.rmi(), a.save(), a.load(), a.importImage(), a.inspect())
	in("system", a.doctor(), a.version())
	root.AddCommand(
		a.group("image", "Work with images", "image", a.build(), a.history(), a.importImage(), a.inspectKind("image"), a.load(),
			named(a.images(), "ls [OPTIONS] [REPOSITORY[:TAG]]", "list"), a.imagePrune(), named(a.rmi(), "rm [OPTIONS] IMAGE [IMAGE...]", "remove"), a.save(), a.tag()),
		a.group("container", "Work with containers", "run", a.attach(), a.commit(), a.create(), a.exec(), a.export(),
			a.inspectKind("container"), a.kill(), a.logs(), named(a.ps(), "ls [OPTIONS]", "list", "ps"), a.rm(), a.run(), a.start(), a.stop(), a.wait(), a.containerPrune()),
		a.group("builder", "Work with the build cache", "build", a.build(), a.builderPrune()),
		a.group("system", "Work with this machine's store", "system", a.systemDf(), a.systemPrune(), a.systemCheck(), a.systemReset()),
	)
}

// named gives a verb the name it has under its noun.
func named(cmd *cobra.Command, use string, aliases ...string) *cobra.Command {
	cmd.Use, cmd.Aliases = use, aliases
	return cmd
}
