// Prints the addresses of names, by Go's own resolver: built without cgo.
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	for _, name := range os.Args[1:] {
		addresses, err := net.LookupHost(name)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(addresses[0])
	}
}
