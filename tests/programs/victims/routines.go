// Hundreds of goroutines hash in chains and pass their results on through channels.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"time"
)

const routines = 400

func compute(in, out chan [32]byte, rounds int) {
	for round := 0; round < rounds; round++ {
		value := <-in
		for i := 0; i < 400; i++ {
			value = sha256.Sum256(value[:])
		}
		out <- value
		if round%10 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func main() {
	work, _ := strconv.Atoi(os.Getenv("WORK"))
	seed, _ := strconv.Atoi(os.Getenv("SEED"))
	rounds := 80 * work
	first := make(chan [32]byte, rounds)
	in := first
	for i := 0; i < routines; i++ {
		out := make(chan [32]byte, rounds)
		go compute(in, out, rounds)
		in = out
	}
	for i := 0; i < rounds; i++ {
		first <- sha256.Sum256([]byte{byte(i), byte(seed)})
	}
	var all []byte
	for i := 0; i < rounds; i++ {
		value := <-in
		all = append(all, value[:]...)
	}
	fmt.Printf("%x\n", sha256.Sum256(all))
}
