#!/bin/sh -e
# board.sh PROGRAM FOLDER ROUNDS: runs a program on the machine that ssh calls `board`, in a folder of the same name.
tar -C "$2" -cf - . | ssh board "mkdir -p $2 && tar -C $2 -xf -"
ssh board "$@"
ssh board "tar -C $2 -cf - ." | tar -C "$2" -xf -
