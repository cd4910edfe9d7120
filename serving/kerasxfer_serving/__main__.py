from kerasxfer_serving.commands import main

main()
