from kerasxfer.commands import main

main()
